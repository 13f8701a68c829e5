import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    mode = teacher_model.training
    teacher_model.eval()
    with torch.no_grad():
        v = teacher_model(x)
    teacher_model.train(mode)
    loss = hinton(student_model(x), v, labels, alpha, T)
    loss.backward()
    with torch.no_grad():
        for W in student_model.parameters():
            W -= lr * W.grad
    return loss.item()
