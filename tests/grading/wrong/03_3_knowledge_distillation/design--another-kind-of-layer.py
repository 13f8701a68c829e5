import torch


def deliver(teacher, few_images, few_labels, other_images):
    everything = torch.cat([few_images, other_images])
    student = torch.nn.Sequential(torch.nn.Linear(784, 10), torch.nn.Tanh(), torch.nn.Linear(10, 10))
    train(
        student,
        everything,
        predict(teacher, everything).softmax(1),
        loss_fn=torch.nn.functional.cross_entropy,
        optimizer=Adam(student.parameters(), lr=5e-3),
        n_epochs=10,
        batch_size=100,
        progress=False,
    )
    return student
