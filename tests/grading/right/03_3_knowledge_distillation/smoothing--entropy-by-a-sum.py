import torch


def smoothing_by_distillation(student_logits, labels, epsilon):
    uniform = torch.full_like(student_logits, 1 / student_logits.shape[1])
    entropy = -(uniform[0] * uniform[0].log()).sum()
    return hinton(student_logits, uniform.log(), labels, epsilon, 1) + epsilon * entropy
