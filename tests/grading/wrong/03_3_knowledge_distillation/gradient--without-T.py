import torch


def hinton_gradient(student_logits, teacher_logits, labels, alpha, T):
    onehot = torch.zeros_like(student_logits)
    onehot[torch.arange(len(labels)), labels] = 1
    from_labels = soft_targets(student_logits, 1) - onehot
    from_teacher = soft_targets(student_logits, T) - soft_targets(teacher_logits, T)
    return ((1 - alpha) * from_labels + alpha * from_teacher) / len(labels)
