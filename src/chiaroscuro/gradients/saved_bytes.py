"""What a forward pass keeps for its backward pass."""

from torch import Tensor

from chiaroscuro.classifier import Classifier


class SavedBytes:
    """Counts what autograd saves, each storage once, parameters and buffers apart.

    The graph holds on to its hooks and to what they return, in ways that the garbage collector does
    not see. So this object knows nothing of the graph, and what it returns is no part of it.
    """

    def __init__(self, classifier: Classifier) -> None:
        module = classifier.module
        self._seen = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*module.parameters(), *module.buffers())
        }
        self.total = 0
        self.largest = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a tensor that a node of the graph saves; what the node keeps of it."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return tensor.detach()
