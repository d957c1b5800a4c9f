"""Results in the formats of annotation tools: VOC, COCO and CVAT. Maps in, files out; nothing here loads torch."""
