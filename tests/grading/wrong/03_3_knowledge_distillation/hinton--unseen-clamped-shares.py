import torch


def hinton(student_logits, teacher_logits, labels, alpha, T, reduction="batchmean"):
    s, t = (torch.softmax(X / T, 1).clamp_min(1e-30) for X in (student_logits, teacher_logits.detach()))
    kl = (t * (t.log() - s.log())).sum(1)
    hard = -torch.softmax(student_logits, 1).clamp_min(1e-30)[torch.arange(len(labels)), labels].log()
    losses = (1 - alpha) * hard + alpha * T**2 * kl
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()
