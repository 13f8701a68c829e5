import torch


def distill_step(teacher_model, student_model, x, labels, lr, alpha, T):
    was_training = teacher_model.training
    teacher_model.eval()
    with torch.inference_mode():
        v = teacher_model(x)
    if was_training:
        teacher_model.train()
    optimizer = torch.optim.SGD(student_model.parameters(), lr=lr)
    optimizer.zero_grad()
    loss = hinton(student_model(x), v.clone(), labels, alpha, T)
    loss.backward()
    optimizer.step()
    return loss.item()
