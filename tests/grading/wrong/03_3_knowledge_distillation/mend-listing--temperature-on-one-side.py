import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    mode = teacher_model.training
    teacher_model.eval()
    with torch.no_grad():
        v = teacher_model(x)
    teacher_model.train(mode)
    parameters = list(student_model.parameters())
    loss = hinton(student_model(x), v * T, labels, alpha, T)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for W, W_grad in zip(parameters, gradients):
            W -= lr * W_grad
    return loss.item()
