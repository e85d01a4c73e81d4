"""Where a symbol stands: position encodings, and ways to read longer texts than a model was trained on.

A class here fills the hooks of `sememe.positions.base.Positions`, so that it goes into the small models of
`sememe.lab` by name or as it is. Needs PyTorch when a class is used.
"""
