"""Models that are no classifiers: attacked, distorted, measured in their own units."""
