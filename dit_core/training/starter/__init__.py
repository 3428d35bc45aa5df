"""The recipe of the starter model: its configurations (recipe.py), its stages (codec.py, transformer.py), the command.

Run it with `python -m sora_dit.dit_core.training.starter`, see `__main__.py`.
"""
