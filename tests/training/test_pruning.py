import pytest

from pdesurrogate.surrogate import Surrogate
from pdesurrogate.sweeps.study import Study, interval
from pdesurrogate.training.pruning import PRUNED_AT
from pdesurrogate.training.run import train


def test_a_trial_that_is_worse_than_the_others_stops_early_with_an_artifact(compose_train, tmp_path):
    optuna = pytest.importorskip("optuna")
    study = Study(tmp_path, {"optim.lr": interval(1e-4, 1e-2, ["log"])}, seed=0, random_trials=9)
    stored = optuna.load_study(storage=study.url, study_name=study.name)
    for _ in range(2):  # others, with errors that no training reaches
        trial = stored.ask(study.space)
        for epoch in range(1, 5):
            trial.report(1e-6, epoch)
        study.tell(trial.number, 1e-6)
    number, _ = study.ask()
    config = compose_train("trainer.max_epochs=4", "data.batch_size=40")
    where = {"storage": study.url, "study": study.name, "trial": number}
    error = train(config | {"pruning": {**where, "after": 1, "against": 2}})
    study.tell(number, error)
    outcome = study.outcomes()[number]
    assert (outcome.state, outcome.score) == ("pruned", pytest.approx(error, rel=0.2))
    assert stored.trials[number].user_attrs == {PRUNED_AT: 2}
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    assert surrogate.provenance["steps"] == 2
    assert "pruning" not in surrogate.provenance["config"]
