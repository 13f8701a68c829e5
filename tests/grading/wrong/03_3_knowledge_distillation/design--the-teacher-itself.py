def deliver(teacher, few_images, few_labels, other_images):
    return teacher
