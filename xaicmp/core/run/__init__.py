"""From a selection of images to a comparison."""
