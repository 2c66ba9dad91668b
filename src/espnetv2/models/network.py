"""Any network of this project."""

from espnetv2.models.classification import ClassificationModel
from espnetv2.models.segmentation import SegmentationModel

Network = ClassificationModel | SegmentationModel
