"""The edition of the skies, which tells data sets apart."""

EDITION = 5
"""Raised whenever a scene's numbers, picture, captions or twin become others.

2: larger birds and planes, twins without sun or moon. 3: captions of more words. 4: twins by speed. 5: captions of
twins name what the twins differ in, and all captions the cover more often.
"""
