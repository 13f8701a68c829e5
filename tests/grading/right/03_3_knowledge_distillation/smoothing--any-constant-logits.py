import math

import torch


def smoothing_by_distillation(student_logits, labels, epsilon):
    C = student_logits.shape[1]
    return hinton(student_logits, torch.full(student_logits.shape, 3.0), labels, epsilon, 1.0) - epsilon * math.log(1 / C)
