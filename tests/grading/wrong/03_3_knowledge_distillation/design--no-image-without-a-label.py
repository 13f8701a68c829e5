def deliver(teacher, few_images, few_labels, other_images):
    student = mlp(784, 10, 10, seed=0)
    train(
        student,
        few_images,
        (predict(teacher, few_images), few_labels),
        loss_fn=lambda u, v, y: hinton(u, v, y, 1.0, 4.0),
        optimizer=Adam(student.parameters(), lr=5e-3),
        n_epochs=100,
        batch_size=50,
        progress=False,
    )
    return student
