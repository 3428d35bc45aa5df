"""What rests on ComfyUI's inside: memory management, native models. Imported by host.py only, inside ComfyUI only."""
