def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    return listing(teacher_model, student_model, x, labels, lr, T).item()
