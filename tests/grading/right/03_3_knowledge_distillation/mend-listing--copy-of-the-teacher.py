import copy


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    asked = copy.deepcopy(teacher_model).eval()
    for W in student_model.parameters():
        W.grad = None
    loss = hinton(student_model(x), asked(x).detach(), labels, alpha, T)
    loss.backward()
    for W in student_model.parameters():
        W.data = W.data - lr * W.grad
    return loss.detach()
