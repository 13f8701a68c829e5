import math

import torch


def smoothing_by_distillation(student_logits, labels, epsilon):
    nobody = torch.zeros_like(student_logits)
    return hinton(student_logits, nobody, labels, epsilon, 1) + epsilon * math.log2(student_logits.shape[1])
