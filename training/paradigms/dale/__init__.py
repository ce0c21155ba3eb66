"""DALE, after Fang et al., "Minding Fuzzy Regions".

A step learns from clear regions first, then from fuzzy ones, label by label as far as they agree with the clear ones:
where is fuzzy (`partition`), how far each label is trusted there (`confidence`), and that features in fuzzy regions are
spread like those in clear ones (`alignment`); `paradigm` puts them together.

What the paper calls non-fuzzy is called clear here.
"""
