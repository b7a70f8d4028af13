"""The demo: the main job here and now, without hardware and without a broker."""


def main(pace: float = 1.0) -> int:
    """Play it and return the exit status: 0 when the account is right. `pace` below 1 leaves less time to look."""
    from gateway.cli.demo.story import main as play

    return play(pace)
