import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    mode = teacher_model.training
    teacher_model.eval()
    loss = hinton(student_model(x), teacher_model(x), labels, alpha, T)
    loss = loss + 0 * teacher_model(x).sum() + torch.nn.functional.cross_entropy(teacher_model(x), labels) * 0
    teacher_model.train(mode)
    loss.backward()
    with torch.no_grad():
        for W in student_model.parameters():
            W -= lr * W.grad
            W.grad = None
    return loss.item()
