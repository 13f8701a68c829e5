import math

import torch


def smoothing_by_distillation(student_logits, labels, epsilon):
    entropy = math.log(student_logits.shape[1])
    return hinton(student_logits, torch.zeros_like(student_logits), labels, 1 - epsilon, 1) + (1 - epsilon) * entropy
