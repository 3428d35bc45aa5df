"""The model library: torch only, knows nothing of nodes, graphs or ComfyUI. Import the submodule you need."""
