"""Found by a worker's Python where PYTHONPATH leads here: its registry gets the models of `trial_models`."""

from trial_models import INFOS

from recond_models import registry

registry._classical = (
    *registry.CLASSICAL,
    *(registry.Entry(info, "trial_models:Trial") for info in INFOS.values()),
)
