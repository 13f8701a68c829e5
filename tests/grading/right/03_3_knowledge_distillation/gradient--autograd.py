import torch


def hinton_gradient(student_logits, teacher_logits, labels, alpha, T):
    u = student_logits.detach().clone().requires_grad_()
    return torch.autograd.grad(hinton(u, teacher_logits, labels, alpha, T), u)[0]
