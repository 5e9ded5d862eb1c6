"""Something that must hold all the time, looked at from a host by itself."""

from tests.operations.lab.portal import wait_until

LOOK = "while :; do if {look}; then echo ok; else echo lost; fi; sleep {pause}; done >> {log}\n"
SERVED = "curl --silent --fail --max-time 3 --output /dev/null http://{address}/"


class Watch:
    """``look`` is a shell command that succeeds as long as all is well."""

    def __init__(self, host, name, look, *, pause=0.1):
        self.host, self.name = host, name
        self.log = f"/run/{name}.log"
        host.write(f"/run/{name}.sh", LOOK.format(look=look, pause=pause, log=self.log))
        host.run(f": > {self.log}; systemd-run --collect --unit={name} sh /run/{name}.sh")
        wait_until(lambda: "ok" in self._answers(), f"{name} to be well", 60)
        host.run(f": > {self.log}")

    def _answers(self):
        return self.host.run(f"cat {self.log}").split()

    def count(self):
        """How often it was well and how often not."""
        answers = self._answers()
        return answers.count("ok"), answers.count("lost")

    def stop(self):
        self.host.run(f"systemctl stop {self.name}")
