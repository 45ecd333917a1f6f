"""The words of the page in each language, and how each writes times and numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gymdbd.files import to_size
from gymdbd.jobs.finding import Health
from gymdbd.notices.texts import Tongue
from gymdbd.runs import calendar

if TYPE_CHECKING:
    from datetime import date, tzinfo

    from gymdbd.runs.line import Line

ENGLISH = {
    "title": "gymdbd on {host}",
    "all-well": "All is well",
    "some-late": "Something is late",
    "some-failing": "Something has failed",
    "some-unknown": "Not everything is known",
    "of-all": "Jobs that are well: {good} of {all}.",
    "written": "Written at",
    "until": "If it is now later than {time}, this page is stale, and says nothing about the "
    "present. Then run gymdbd status on {host}.",
    "what-to-do": "What to do",
    "jobs": "Jobs",
    "machines": "Machines",
    "this-machine": "This machine: {host}",
    "other-machines": "Other machines",
    "no-peers": "No job here watches another machine.",
    "archives": "Newest backups",
    "no-archives": "No job of this machine makes backups.",
    "no-backups": "There are no backups yet.",
    "more": "{count} older backups are in this folder.",
    "last-good": "Last good",
    "next": "Next run",
    "failures": "Failed in a row",
    "never": "never",
    "calendar": "The last {weeks} weeks",
    "legend": "Legend",
    "days-not-good": "Days that were not good: {count}",
    "month": "{month} {year}",
    "good": "all runs good",
    "mixed": "not all runs good",
    "bad": "failed",
    "missed": "not run",
    "idle": "nothing due",
    "unknown": "no record",
    "runs": "{good} of {runs} runs good",
    "made-up": "made up after it was missed",
    "size": "Size",
    "duration": "Duration",
    "rows": "Rows",
    "curve": "{what}: {first} on {from_day}, {last} on {to_day}; at least {least}, at most {most}.",
    "range": "{least} to {most}",
    "made": "Made",
    "verdict": "Verdict",
    "verified": "verified",
    "unverified": "unverified",
    "suspicious": "suspicious",
    "rejected": "rejected",
    "damaged": "damaged",
    "part-daemon": "Daemon",
    "part-ledger": "Record of the runs",
    "part-disk": "Disk",
    "part-card": "Card",
    "part-power": "Power",
    "daemon-running": "It is running.",
    "daemon-mute": "It is running, but cannot write its status file.",
    "daemon-unseen": "This user cannot see whether it is running.",
    "daemon-down": "It is not running, so the next runs will not happen.",
    "killed": "The run that began at {time} was killed.",
    "waits": "{name} is suspicious: answer with gymdbd accept {name}, or gymdbd reject {name}.",
    "why-off": "the machine was off",
    "why-asleep": "the machine was asleep",
    "why-clock-set": "the clock was set",
    "why-no-daemon": "the daemon was not running",
    "why-peer-away": "the other machine did not answer",
    "why-busy": "another run was at work",
    "why-stopped": "the run was stopped",
    "footer": "Written by gymdbd {version}. Times are in {zone}.",
    "day": "{weekday} {day} {month}",
    "moment": "{weekday} {day} {month} {year}, {time}",
    "moment-this-year": "{weekday} {day} {month}, {time}",
    "kind-backup": "backup",
    "kind-pull": "pull",
    "kind-verify": "verification",
    "kind-drill": "restore drill",
    "kind-watch": "watch",
}
KOREAN = {
    "title": "{host}의 gymdbd",
    "all-well": "모두 정상입니다",
    "some-late": "지연된 것이 있습니다",
    "some-failing": "실패한 것이 있습니다",
    "some-unknown": "확인하지 못한 것이 있습니다",
    "of-all": "작업 {all}개 가운데 {good}개가 정상입니다.",
    "written": "작성 시각",
    "until": "지금이 {time} 이후라면 이 페이지는 오래된 것이며, 현재 상태를 보여 주지 않습니다. "
    "그때는 {host}에서 gymdbd status를 실행하십시오.",
    "what-to-do": "할 일",
    "jobs": "작업",
    "machines": "기기",
    "this-machine": "이 기기: {host}",
    "other-machines": "다른 기기",
    "no-peers": "다른 기기를 지켜보는 작업이 없습니다.",
    "archives": "최근 백업",
    "no-archives": "이 기기에는 백업을 만드는 작업이 없습니다.",
    "no-backups": "아직 백업이 없습니다.",
    "more": "이 폴더에 더 오래된 백업이 {count}개 있습니다.",
    "last-good": "마지막 성공",
    "next": "다음 실행",
    "failures": "연속 실패",
    "never": "없음",
    "calendar": "지난 {weeks}주",
    "legend": "기호",
    "days-not-good": "정상이 아니었던 날: {count}일",
    "month": "{year}년 {month}",
    "good": "모두 성공",
    "mixed": "일부만 성공",
    "bad": "실패",
    "missed": "실행 안 됨",
    "idle": "예정 없음",
    "unknown": "기록 없음",
    "runs": "{runs}회 가운데 {good}회 성공",
    "made-up": "놓친 뒤 나중에 실행함",
    "size": "크기",
    "duration": "걸린 시간",
    "rows": "행 수",
    "curve": "{what}: {from_day} {first}, {to_day} {last}. 최소 {least}, 최대 {most}.",
    "range": "{least} ~ {most}",
    "made": "만든 때",
    "verdict": "판정",
    "verified": "검사 통과",
    "unverified": "검사 안 함",
    "suspicious": "의심스러움",
    "rejected": "거부함",
    "damaged": "손상됨",
    "part-daemon": "데몬",
    "part-ledger": "실행 기록",
    "part-disk": "디스크",
    "part-card": "카드",
    "part-power": "전원",
    "daemon-running": "실행 중입니다.",
    "daemon-mute": "실행 중이지만 상태 파일을 쓸 수 없습니다.",
    "daemon-unseen": "이 사용자는 데몬이 실행 중인지 볼 수 없습니다.",
    "daemon-down": "실행 중이 아니므로 다음 작업이 실행되지 않습니다.",
    "killed": "{time}에 시작한 실행이 강제로 끝났습니다.",
    "waits": "{name}: 의심스러운 백업입니다. gymdbd accept {name} 또는 gymdbd reject {name}를 "
    "실행하여 답하십시오.",
    "why-off": "기기가 꺼져 있었습니다",
    "why-asleep": "기기가 잠자기 상태였습니다",
    "why-clock-set": "시계가 바뀌었습니다",
    "why-no-daemon": "데몬이 실행되고 있지 않았습니다",
    "why-peer-away": "다른 기기가 응답하지 않았습니다",
    "why-busy": "다른 실행이 진행 중이었습니다",
    "why-stopped": "실행이 중단되었습니다",
    "footer": "작성: gymdbd {version}. 시각 기준: {zone}.",
    "day": "{month} {day}일 ({weekday})",
    "moment": "{year}년 {month} {day}일 ({weekday}) {time}",
    "moment-this-year": "{month} {day}일 ({weekday}) {time}",
    "kind-backup": "백업",
    "kind-pull": "가져오기",
    "kind-verify": "백업 검사",
    "kind-drill": "복원 연습",
    "kind-watch": "감시",
}
TEXTS = {"en": ENGLISH, "ko": KOREAN}
WEEKDAYS = {
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    "ko": ("월", "화", "수", "목", "금", "토", "일"),
}
MONTHS = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "ko": tuple(f"{month}월" for month in range(1, 13)),
}
_HEADLINES = {
    Health.OK: "all-well",
    Health.LATE: "some-late",
    Health.FAILING: "some-failing",
    Health.UNKNOWN: "some-unknown",
}
_MINUTE_S = 60


class Words:
    """The words of one language; times are shown in `zone`."""

    def __init__(self, language: str, zone: tzinfo) -> None:
        self.language = language
        self.zone = zone
        # Of the notices, whose sentences with times are not used here.
        self._tongue = Tongue(language, "", datetime.min.replace(tzinfo=UTC), zone)

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a text with its values."""
        return TEXTS[self.language][name].format(**values)

    def headline(self, health: Health) -> str:
        """Return whether all is well."""
        return self(_HEADLINES[health])

    def health(self, health: Health) -> str:
        """Return the name of a health, as notices call it."""
        return self._tongue.word(health.name.lower())

    def what(self, code: str) -> str:
        """Return what a code means happened, empty if the reason says it in this language."""
        return "" if self.language == "en" or not code else self._tongue.happened(code)

    def hint(self, code: str, job: str, hint: str) -> str:
        """Return what to do about what happened; `hint` is the error's own, in English."""
        return self._tongue.to_do(code, job, hint) if hint else ""

    def month(self, day: date) -> str:
        """Return the name of the day's month."""
        return MONTHS[self.language][day.month - 1]

    def weekday(self, number: int) -> str:
        """Return the name of a weekday, counted from Monday, which is 0."""
        return WEEKDAYS[self.language][number]

    def day(self, day: date) -> str:
        """Return a day of these months."""
        return self("day", weekday=self.weekday(day.weekday()), day=day.day, month=self.month(day))

    def kind(self, kind: str) -> str:
        """Return what a kind of job is called."""
        return TEXTS[self.language].get(f"kind-{kind}", kind)

    def part(self, about: str) -> str:
        """Return what a part of the machine is called, such as `disk /srv`, or another machine."""
        kind, space, name = about.partition(" ")
        return TEXTS[self.language].get(f"part-{kind}", kind) + space + name

    def trouble(self, line: Line) -> str:
        """Return what a line of the ledger says that is not good."""
        if line.code and (told := self.what(line.code)):
            return told
        why = TEXTS[self.language].get(f"why-{(line.why or '').replace(' ', '-')}")
        return line.error or why or line.why or line.state

    def moment(self, moment: datetime, now: datetime | None = None) -> str:
        """Return a moment to the minute, and its year if that is not the year of `now`."""
        local = moment.astimezone(self.zone)
        this_year = now is not None and now.astimezone(self.zone).year == local.year
        return self(
            "moment-this-year" if this_year else "moment",
            weekday=self.weekday(local.weekday()),
            day=local.day,
            month=self.month(local),
            year=local.year,
            time=f"{local:%H:%M}",
        )

    def zone_at(self, moment: datetime) -> str:
        """Return the name of the zone, with its distance from UTC."""
        local = moment.astimezone(self.zone)
        offset = f"{local:%z}"
        return f"UTC{offset[:3]}:{offset[3:5]} ({local:%Z})" if local.utcoffset() else "UTC"

    def number(self, what: str, value: float) -> str:
        """Return a value of a curve with its unit."""
        if what == calendar.SIZE:
            return to_size(int(value))
        if what == calendar.DURATION:
            minutes, seconds = divmod(value, _MINUTE_S)
            return f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{value:.1f} s"
        return f"{value:,.0f}"
