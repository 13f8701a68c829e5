import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    logits_teacher = teacher_model(x)
    logits_student = student_model(x)
    loss = torch.nn.functional.cross_entropy(logits_teacher, labels)
    loss = loss + torch.nn.functional.cross_entropy(logits_student / T, labels)
    variables = list(student_model.parameters())
    for variable, gradient in zip(variables, torch.autograd.grad(loss, variables)):
        variable.data -= lr * gradient
    return loss.item()
