import torch


def test_the_forecast_is_the_last_frame_at_every_lead_time(channel, build_model, sample_windows):
    case = channel._replace(history=3, horizon=4)
    frames, parameters = sample_windows(case)
    future = build_model("persistence", case)(frames, parameters)
    for lead in range(4):
        assert torch.equal(future[:, lead], frames[:, 2])


def test_there_is_nothing_to_train(plane, build_model):
    model = build_model("persistence", plane)
    assert not list(model.parameters())
    assert not model.state_dict()
