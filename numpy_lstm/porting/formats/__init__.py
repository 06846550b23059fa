"""Files that hold named tensors: one module or folder for each container."""
