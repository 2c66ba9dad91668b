from __future__ import annotations

from espnetv2.labels import CITYSCAPES, CITYSCAPES_LABEL_IDS, VOC, distinct_palette, imagenet_labels, voc_palette


def test_the_colours_of_voc() -> None:
    assert VOC.palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert VOC.palette[VOC.classes.index("person")] == (192, 128, 128)
    assert voc_palette(256)[255] == (224, 224, 192)


def test_every_class_has_a_colour_of_its_own() -> None:
    for palette in (CITYSCAPES.palette, VOC.palette, distinct_palette(40)):
        assert len(set(palette)) == len(palette)
    assert len(CITYSCAPES.classes) == len(CITYSCAPES.palette) == len(CITYSCAPES_LABEL_IDS) == 19


def test_imagenet_has_a_thousand_classes() -> None:
    classes = imagenet_labels().classes
    assert len(classes) == 1000
    assert classes[0] == "tench"
    assert classes[574] == "golf ball"
