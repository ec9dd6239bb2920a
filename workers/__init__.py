"""The workers: they measure and train; they hold no rule of the business."""
