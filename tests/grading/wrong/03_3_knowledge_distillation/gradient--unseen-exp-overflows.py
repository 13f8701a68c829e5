import torch


def hinton_gradient(student_logits, teacher_logits, labels, alpha, T):
    def shares(logits, T):
        E = (logits / T).exp()
        return E / E.sum(dim=1, keepdim=True)

    onehot = torch.eye(student_logits.shape[1])[labels]
    from_teacher = T * (shares(student_logits, T) - shares(teacher_logits, T))
    return ((1 - alpha) * (shares(student_logits, 1) - onehot) + alpha * from_teacher) / len(labels)
