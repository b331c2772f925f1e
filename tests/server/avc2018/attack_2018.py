# mypy: ignore-errors
"""An entry of 2018, as its author would have written it: a Foolbox 1.8 attack on load_model()."""

import foolbox
from adversarial_vision_challenge import (
    attack_complete,
    load_model,
    read_images,
    store_adversarial,
)


def main():
    model = load_model()
    foolbox.set_seeds(2018)
    attack = foolbox.attacks.SaltAndPepperNoiseAttack(model, foolbox.criteria.Misclassification())
    for number, (file_name, image, label) in enumerate(read_images()):
        # The second image is given up, as an attack that finds nothing does.
        adversarial = None if number == 1 else attack(image, label, epsilons=30, repetitions=2)
        store_adversarial(file_name, adversarial)
        print("image", number, "found" if adversarial is not None else "failed", flush=True)
    attack_complete()


if __name__ == "__main__":
    main()
