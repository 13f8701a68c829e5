import torch


def hinton(student_logits, teacher_logits, labels, alpha, T, reduction="batchmean"):
    u, v = student_logits.double(), teacher_logits.detach().double()
    s, t = u / T - torch.logsumexp(u / T, 1, keepdim=True), v / T - torch.logsumexp(v / T, 1, keepdim=True)
    label_part = torch.logsumexp(u, 1) - u.gather(1, labels[:, None])[:, 0]
    losses = (1 - alpha) * label_part + alpha * T * T * torch.einsum("bc,bc->b", t.exp(), t - s)
    losses = losses.to(student_logits.dtype)
    if reduction == "none":
        return losses
    return losses.sum() / (len(labels) if reduction == "batchmean" else 1)
