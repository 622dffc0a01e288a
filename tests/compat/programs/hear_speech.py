"""Where there is speech in a made-up recording, by silero-vad and each of its models."""

import json
from importlib import resources

import numpy as np
import onnxruntime
import torch
from silero_vad import get_speech_timestamps, load_silero_vad

RATE = 16000


def recording(seconds: float = 4.0) -> np.ndarray:
    """Vowels of a gliding voice between pauses of faint noise: float32, 16 kHz."""
    rng = np.random.default_rng(5)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(time)
    for number in range(1, 30):
        frequency = number * pitch
        formants = sum(
            np.exp(-(((frequency - centre) / width) ** 2)) / (1 + index)
            for index, (centre, width) in enumerate(((600, 180), (1200 + 500 * np.sin(5 * time), 250), (2600, 300)))
        )
        sound += formants * np.sin(number * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0, 1) * (np.sin(2 * np.pi * 0.45 * time) > 0)
    return (0.3 * sound * syllables + 0.002 * rng.normal(size=len(time))).astype(np.float32)


def stateful(name: str, sound: np.ndarray) -> list[float]:
    """Probabilities by a model's file alone, chunk after chunk: its inputs are `input`, `state` and perhaps `sr`."""
    path = resources.files("silero_vad.data").joinpath(name)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [arg.name for arg in session.get_inputs()]
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(64, np.float32)
    found = []
    for chunk in sound[: len(sound) // 512 * 512].reshape(-1, 512):
        feed = {"input": np.concatenate([context, chunk])[None], "state": state}
        if "sr" in names:
            feed["sr"] = np.array(RATE, np.int64)
        probability, state = session.run(None, feed)
        context = chunk[-64:]
        found.append(float(np.asarray(probability).reshape(-1)[0]))
    return found


sound = recording()
tensor = torch.from_numpy(sound)
results = {}
for version in (15, 16):
    model = load_silero_vad(onnx=True, opset_version=version)
    results[f"opset {version}"] = model.audio_forward(tensor, RATE).reshape(-1).tolist()
    results[f"opset {version} speech"] = [list(part.values()) for part in get_speech_timestamps(tensor, model)]
slow = torch.from_numpy(np.ascontiguousarray(sound[::2]))
results["8 kHz"] = load_silero_vad(onnx=True).audio_forward(slow, RATE // 2).reshape(-1).tolist()
sequence = load_silero_vad(sequence=True)
results["sequence"] = np.asarray(sequence.audio_forward(sound)).reshape(-1).tolist()
for name in ("silero_vad_half.onnx", "silero_vad_op18_ifless.onnx", "silero_vad_openvino_16k.onnx"):
    results[name] = stateful(name, sound)
print(json.dumps(results))
