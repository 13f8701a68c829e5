import torch


def deliver(teacher, few_images, few_labels, other_images):
    everything = torch.cat([few_images, other_images])
    student = mlp(784, 10, 10, seed=1)
    train(
        student,
        everything,
        predict(teacher, everything).argmax(1),
        optimizer=Adam(student.parameters(), lr=5e-3),
        n_epochs=10,
        batch_size=100,
        progress=False,
    )
    return student
