"""What is told of a run while it goes on: a user's own listeners, and those for TensorBoard, MLflow and
Weights & Biases.
"""

from search.listeners.base import Listener, RunFacts
from search.listeners.mlflow import MLflow
from search.listeners.tensorboard import TensorBoard
from search.listeners.wandb import WandB

__all__ = ["Listener", "MLflow", "RunFacts", "TensorBoard", "WandB"]
