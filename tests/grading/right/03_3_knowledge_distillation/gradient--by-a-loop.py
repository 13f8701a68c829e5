import torch


def hinton_gradient(student_logits, teacher_logits, labels, alpha, T):
    G = alpha * T * (torch.softmax(student_logits / T, 1) - torch.softmax(teacher_logits / T, 1))
    G = G + (1 - alpha) * torch.softmax(student_logits, 1)
    for b, y in enumerate(labels.tolist()):
        G[b, y] -= 1 - alpha
    return G / len(labels)
