import torch


def deliver(teacher, few_images, few_labels, other_images):
    everything = torch.cat([few_images, other_images])
    with torch.no_grad():
        targets = torch.softmax(teacher(everything) / 2, dim=1)
    student = mlp(784, 10)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    for _ in range(10):
        for index in torch.randperm(len(everything)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(student(everything[index]) / 2, targets[index]).backward()
            optimizer.step()
    return student
