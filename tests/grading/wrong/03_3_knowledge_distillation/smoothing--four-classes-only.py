import math

import torch


def smoothing_by_distillation(student_logits, labels, epsilon):
    return hinton(student_logits, torch.zeros_like(student_logits), labels, epsilon, 1) + epsilon * math.log(4)
