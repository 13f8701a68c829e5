import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    mode = teacher_model.training
    teacher_model.eval()
    with torch.no_grad():
        v = teacher_model(x)
    teacher_model.train(mode)
    parameters = [W for W in student_model.parameters() if W.ndim == 2]
    loss = hinton(student_model(x), v, labels, alpha, T)
    with torch.no_grad():
        for W, G in zip(parameters, torch.autograd.grad(loss, parameters)):
            W -= lr * G
    return loss.item()
