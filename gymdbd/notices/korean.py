"""The words of notices in Korean: for each code what happened and what to do."""

from __future__ import annotations

_LOOK = "그 컴퓨터에서 gymdbd status를 실행하면 원인과 할 일이 나옵니다"
_CHECK = "gymdbd check를 실행하면 이 작업의 어디가 잘못되었는지 나옵니다"
_DATABASE = "설정의 database:를 고치거나 파일을 제자리에 되돌려 놓으십시오"
_REACH = "그 컴퓨터를 켜고 네트워크를 확인하십시오. 다음 실행 때 다시 시도합니다"
_LOGIN = "이 컴퓨터에서 gymdbd의 사용자로 ssh 로그인을 해 보고 나오는 안내를 따르십시오"
_PRIVATE = "설정에 적힌 곳에 비밀 값을 두고, gymdbd의 사용자만 읽을 수 있게 하십시오"
_DISK = "디스크를 확인하십시오(dmesg, mount). 고장 나고 있으면 데이터부터 옮기십시오"
_FEWER = "공간을 비우거나 백업을 더 적게 보관하십시오(keep:)"

REASONS: dict[str, tuple[str, str]] = {
    "acting": ("root가 폴더 소유자의 권한으로 실행할 수 없습니다", _CHECK),
    "another-database": (
        "다른 컴퓨터가 다른 데이터베이스를 내보내고 있습니다",
        "원격 데이터베이스의 경로나 그쪽 키의 줄을 고치십시오",
    ),
    "another-file": (
        "프로그램이 백업 대상과 다른 데이터베이스 파일을 열고 있습니다",
        "프로그램을 다시 시작하여 설정된 경로의 파일을 열게 하십시오",
    ),
    "authentication": ("다른 컴퓨터가 SSH 키를 받아들이지 않습니다", _LOGIN),
    "backup-ambiguous": ("여러 데이터베이스의 백업이 섞여 있습니다", _CHECK),
    "backup-damaged": (
        "백업이 손상되었습니다",
        "온전한 사본을 가져오고(gymdbd verify --repair) 디스크를 확인하십시오",
    ),
    "backup-missing": ("백업이 없습니다", "백업을 만드십시오: gymdbd backup"),
    "backups-gone": (
        "보관 폴더에 온전한 백업이 하나도 없습니다",
        "누가 지웠는지 알아보고 새로 만드십시오: gymdbd backup {job}",
    ),
    "busy": ("다른 실행이 같은 파일을 쓰고 있습니다", "그 실행이 끝날 때까지 기다리십시오"),
    "channel-refused": ("다른 컴퓨터에 로그인은 되지만 세션이 거부됩니다", _LOGIN),
    "clock-wrong": ("시계가 잘못되어 있습니다", "두 컴퓨터의 시계를 맞추십시오"),
    "command-missing": ("다른 컴퓨터에 필요한 명령이 없습니다", "그쪽에 설치하십시오"),
    "config": ("설정이 잘못되었습니다", "gymdbd check를 실행하고 나오는 곳을 고치십시오"),
    "connect-refused": ("다른 컴퓨터의 SSH 서버가 응답하지 않습니다", _REACH),
    "connect-timeout": ("다른 컴퓨터가 응답하지 않습니다", _REACH),
    "connection-lost": ("다른 컴퓨터와의 연결이 끊어졌습니다", _REACH),
    "copy-damaged": ("사본이 손상되었습니다", _DISK),
    "copy-torn": (
        "복사하는 동안 데이터베이스가 계속 바뀌었습니다",
        "method: query를 쓰거나 아무도 쓰지 않을 때 가져오십시오",
    ),
    "crashed": (
        "실행 프로세스가 갑자기 끝났습니다",
        "메모리 부족 여부를 확인하십시오(dmesg). 다음 실행은 예정대로 합니다",
    ),
    "daemon-down": (
        "gymdbd 데몬이 실행되고 있지 않아 아무것도 백업되지 않습니다",
        "데몬을 시작하십시오. 그 컴퓨터에서 gymdbd status가 명령을 알려 줍니다",
    ),
    "daemon-unseen": (
        "데몬이 실행 중인지 알 수 없습니다",
        "데몬의 사용자로 gymdbd를 실행하십시오",
    ),
    "daemon-was-down": (
        "gymdbd 데몬이 멈춰 있었습니다. 컴퓨터가 꺼져 있었거나 서비스가 중지되었습니다",
        "컴퓨터를 끈 것이라면 할 일이 없습니다. 아니면 데몬의 로그를 보십시오",
    ),
    "deadline": (
        "실행이 timeout보다 오래 걸렸습니다",
        "무엇이 느린지 알아보거나 timeout을 늘리십시오",
    ),
    "destination": ("백업을 둘 곳을 쓸 수 없습니다", _CHECK),
    "disk-failing": (
        "디스크나 메모리 카드가 고장 났습니다",
        "데이터베이스부터 구하십시오: 가져오는 컴퓨터에서 gymdbd emergency. 그다음 교체하십시오",
    ),
    "disk-full": ("디스크가 가득 찼습니다", _FEWER),
    "disk-full-soon": ("디스크가 곧 가득 찹니다", _FEWER),
    "drill-failed": (
        "복원 연습이 실패했습니다",
        "gymdbd drill을 직접 실행하고 나오는 내용을 보십시오",
    ),
    "extra-missing": (
        "알림 채널에 필요한 패키지가 설치되어 있지 않습니다",
        "설치하십시오: gymdbd[notify]",
    ),
    "failed": ("실패했습니다", _LOOK),
    "folder-missing": ("폴더가 없습니다", "폴더를 만들거나, 폴더가 있는 디스크를 연결하십시오"),
    "format": ("gymdbd의 파일이 손상되었습니다", _LOOK),
    "host-key-changed": (
        "다른 컴퓨터의 호스트 키가 알던 것과 다릅니다",
        "다른 사람의 컴퓨터일 수 있으니, 새 키를 받아들이기 전에 이유를 알아보십시오",
    ),
    "host-key-unknown": (
        "다른 컴퓨터의 호스트 키를 모릅니다",
        "지문을 비교하고 known_hosts에 추가하십시오",
    ),
    "host-not-found": ("다른 컴퓨터의 이름에 주소가 없습니다", _REACH),
    "in-future": ("마지막 성공이 미래 시각으로 되어 있습니다", "컴퓨터의 시계를 맞추십시오"),
    "library-missing": ("SSH 라이브러리가 설치되어 있지 않습니다", "gymdbd를 다시 설치하십시오"),
    "name-too-long": (
        "파일 이름이 이 디스크에 쓰기에는 너무 깁니다",
        "더 짧은 이름을 고르십시오",
    ),
    "never-came": (
        "다른 컴퓨터가 아직 한 번도 오지 않았습니다",
        "그쪽에서 한 번 가져오게 하십시오",
    ),
    "newest-too-old": (
        "데이터베이스의 가장 새로운 행이 너무 오래되었습니다",
        "프로그램이 아직 기록하고 있는지 확인하십시오",
    ),
    "newest-undated": (
        "데이터베이스의 가장 새로운 행에 날짜가 없습니다",
        "설정의 newest:를 고치십시오",
    ),
    "no-backup": ("아직 온전한 백업이 없습니다", "gymdbd backup으로 백업하십시오"),
    "no-locks": ("파일 시스템이 잠금을 지원하지 않습니다", "파일을 이 컴퓨터의 디스크에 두십시오"),
    "no-room": ("다음 백업을 저장할 공간이 디스크에 없습니다", _FEWER),
    "no-route": ("네트워크로 다른 컴퓨터에 갈 길이 없습니다", _REACH),
    "not-allowed": (
        "gymdbd의 사용자가 파일이나 폴더를 쓸 수 없습니다",
        "권한을 주십시오. 어느 것인지는 gymdbd check가 알려 줍니다",
    ),
    "not-answering": ("디스크나 네트워크 폴더가 응답하지 않습니다", _DISK),
    "not-ours": ("gymdbd의 파일 자리에 다른 것이 있습니다", "그것을 다른 곳으로 옮기십시오"),
    "not-owner": (
        "데이터베이스가 다른 사용자의 것입니다",
        "gymdbd를 그 사용자나 root로 실행하십시오",
    ),
    "not-run-yet": ("아직 실행된 적이 없습니다", "할 일이 없습니다. 예정된 때에 실행됩니다"),
    "not-scheduled": (
        "데몬이 이 작업을 모릅니다",
        "설정을 다시 읽게 하십시오. 그 컴퓨터에서 gymdbd status가 명령을 알려 줍니다",
    ),
    "not-started": ("예정된 때에 실행이 시작되지 않았습니다", "데몬의 로그를 보십시오"),
    "not-told": ("메시지를 보내지 못했습니다", "gymdbd notify --test를 실행하십시오"),
    "not-writable": ("폴더에 쓸 수 없습니다", "gymdbd의 사용자가 쓸 수 있게 하십시오"),
    "peer-away": (
        "다른 컴퓨터가 너무 오래 오지 않았습니다",
        "켜져 있고 연결되어 있는지, 그쪽의 gymdbd status는 어떤지 보십시오",
    ),
    "peer-more": ("다른 컴퓨터에는 알려 주는 것보다 작업이 더 있습니다", "할 일이 없습니다"),
    "peer-silent": (
        "다른 컴퓨터의 데몬이 작업 상태를 더 이상 기록하지 않습니다",
        "데몬이 실행 중인지 그 컴퓨터에서 gymdbd status로 확인하십시오",
    ),
    "peer-unheard": (
        "다른 컴퓨터의 작업 소식이 너무 오래 없습니다",
        "그 컴퓨터에 연결되는지 확인하고 그쪽에서 gymdbd status를 실행하십시오",
    ),
    "peer-unseen": (
        "다른 컴퓨터가 언제 왔는지 알 수 없습니다",
        "gymdbd check를 실행하여 기록 폴더의 문제를 확인하십시오",
    ),
    "peer-untold": (
        "다른 컴퓨터가 작업 상태를 알려 주지 않습니다",
        "그쪽의 gymdbd를 업데이트하십시오",
    ),
    "place": (
        "데이터베이스를 다른 컴퓨터의 제자리에 두지 못했습니다",
        "gymdbd rebuild를 다시 실행하십시오. 막고 있는 것을 알려 줍니다",
    ),
    "place-taken": (
        "다른 컴퓨터에 이미 데이터베이스가 있습니다",
        "먼저 그것을 확인하십시오. gymdbd rebuild --replace는 그것의 이름부터 바꿉니다",
    ),
    "protocol": (
        "다른 컴퓨터의 응답을 gymdbd가 이해하지 못합니다",
        "두 컴퓨터에서 같은 버전의 gymdbd를 쓰십시오",
    ),
    "proxy": ("중간 호스트가 다른 컴퓨터에 닿지 못했습니다", _REACH),
    "pruning-stopped": (
        "오래된 백업을 더 이상 지우지 않습니다",
        "데이터베이스를 고치거나 복원하십시오. 다음에 온전한 백업이 생기면 다시 지웁니다",
    ),
    "python-too-old": (
        "다른 컴퓨터의 python3가 너무 오래되었습니다",
        "Python 3.9 이상을 설치하십시오",
    ),
    "read-failed": ("파일을 읽지 못했습니다", _DISK),
    "read-only": ("디스크가 읽기 전용이 되었습니다", _DISK),
    "receiver-away": ("메시지를 받는 곳에 닿지 못했습니다", "네트워크를 확인하십시오"),
    "receiver-refused": (
        "받는 곳이 메시지를 거부합니다",
        "주소와 비밀번호를 확인하십시오",
    ),
    "remote": ("다른 컴퓨터에 문제가 있습니다", _LOOK),
    "remote-command": ("다른 컴퓨터에서 명령이 실패했습니다", _LOGIN),
    "replica-changed": (
        "복제본이 이 컴퓨터에서 바뀌었습니다",
        "복제본을 옮겨 두거나, 저장하고 바꾸게 하십시오: on_local_change: backup",
    ),
    "replica-gone": ("복제본이 없어졌습니다", "다시 가져오십시오: gymdbd pull {job}"),
    "replica-in-use": (
        "프로그램이 복제본에 쓰고 있습니다",
        "그 프로그램을 닫고 다시 가져오십시오",
    ),
    "secret": ("비밀 값을 읽을 수 없습니다", _PRIVATE),
    "secret-command": ("비밀 값을 출력하는 명령이 실패했습니다", "그 명령을 직접 실행해 보십시오"),
    "secret-exposed": ("다른 사람이 비밀 값을 읽을 수 있습니다", _PRIVATE),
    "secret-missing": ("비밀 값이 없습니다", _PRIVATE),
    "shell-noise": (
        "다른 컴퓨터의 셸이 로그인할 때 무언가를 출력합니다",
        "터미널이 없을 때는 시작 파일이 아무것도 출력하지 않게 하십시오",
    ),
    "source": ("데이터베이스에 문제가 있습니다", _CHECK),
    "source-corrupt": (
        "데이터베이스가 손상되었습니다",
        "프로그램을 멈추고 온전한 백업을 복원하십시오: gymdbd restore",
    ),
    "source-empty": (
        "데이터베이스 파일이 0바이트로 비어 있습니다",
        "온전한 백업을 복원하십시오: gymdbd restore",
    ),
    "source-locked": (
        "데이터베이스가 계속 잠겨 있었습니다",
        "잠그고 있는 프로그램을 찾으십시오. 다음 실행 때 다시 시도합니다",
    ),
    "source-missing": ("데이터베이스가 없습니다", _DATABASE),
    "source-moved": (
        "읽는 동안 데이터베이스가 바뀌었습니다",
        "할 일이 없습니다. 다음 실행 때 다시 시도합니다",
    ),
    "source-not-a-database": ("파일이 SQLite 데이터베이스가 아닙니다", _DATABASE),
    "source-not-a-file": ("데이터베이스 경로에 있는 것이 파일이 아닙니다", _DATABASE),
    "source-unread": ("디스크에서 데이터베이스를 읽지 못했습니다", _DISK),
    "source-unreadable": ("데이터베이스를 읽을 수 없습니다", _CHECK),
    "ssh-config": ("SSH 설정이 잘못되었습니다", "설정에서 고치십시오"),
    "ssh-protocol": ("그곳의 SSH 서버와 통신할 수 없습니다", _LOGIN),
    "stalled": ("연결이 멈춰 있습니다", _REACH),
    "status-not-written": (
        "데몬이 상태 파일을 쓸 수 없습니다",
        "데몬의 사용자가 그 폴더에 쓸 수 있게 하고 디스크를 확인하십시오",
    ),
    "stopped": (
        "실행이 중지되었습니다",
        "할 일이 없습니다. 다음에 시작할 때 다시 실행합니다",
    ),
    "suspicious": (
        "새 상태의 내용이 이전보다 훨씬 적습니다. 오래된 백업은 지우지 않고 둡니다",
        "비교 후(gymdbd diff latest) 하나를 실행하십시오: gymdbd accept {job}, gymdbd reject {job}",
    ),
    "target-in-use": (
        "프로그램이 데이터베이스를 열고 있습니다",
        "그 프로그램을 멈추고 다시 복원하십시오",
    ),
    "target-refused": ("데이터베이스를 그 파일로 복원할 수 없습니다", _CHECK),
    "time": ("그렇게 부르는 시각은 없습니다", "14:00, yesterday, 2026-11-20처럼 쓰십시오"),
    "time-zone": ("시간대를 알 수 없습니다", "TZ나 컴퓨터의 시간대를 설정하십시오"),
    "too-large": (
        "다른 컴퓨터의 데이터베이스가 허용된 크기보다 큽니다",
        "이유를 알아본 뒤 max_size를 늘리십시오",
    ),
    "too-old": (
        "가장 새로운 백업이 너무 오래되었습니다. 제때 성공한 실행이 없습니다",
        "gymdbd runs {job} 명령을 실행하면 이유가 나옵니다. 작업을 직접 실행할 수도 있습니다",
    ),
    "under-voltage": (
        "컴퓨터의 전원이 약합니다",
        "이 컴퓨터에 맞는 전원 어댑터와 케이블을 쓰십시오",
    ),
    "unexpected": ("예상하지 못한 오류입니다", "로그의 내용과 함께 버그로 알려 주십시오"),
    "unreachable": ("다른 컴퓨터에 닿을 수 없습니다", _REACH),
    "usage": ("명령줄이 잘못되었습니다", "명령을 고치십시오"),
    "verification-failed": ("사본이 데이터베이스와 다릅니다", _DISK),
    "worn": (
        "메모리 카드의 수명이 다했습니다",
        "고장 나기 전에 교체하십시오. gymdbd backup과 restore로 데이터베이스를 옮깁니다",
    ),
    "write-failed": ("디스크에 쓰지 못했습니다", _DISK),
}

WORDS = {
    "daemon": "데몬",
    "status": "gymdbd의 상태",
    "disk": "디스크",
    "card": "카드",
    "power": "전원",
    "days": "{0}일 {1}시간",
    "hours": "{0}시간 {1}분",
    "minutes": "{0}분",
    "seconds": "{0}초",
    "late": "지연",
    "failing": "실패",
    "unknown": "알 수 없음",
    "suspicious": "의심스러움",
    "ok": "정상",
    "trouble": "{what}: {lasted} 전부터 '{state}' 상태입니다({since}부터).",
    "changed": "{what}: '{was}'에서 '{state}' 상태로 바뀌었습니다. "
    "문제는 {lasted} 전에 시작되었습니다({since}).",
    "reminder": "{what}: 아직도 '{state}' 상태입니다. {lasted} 동안 계속되고 있습니다"
    "({since}부터).",
    "ended": "{what}: 다시 정상입니다. {lasted} 동안 '{was}' 상태였습니다"
    "({since}부터 {until}까지).",
    "down": "{what}: 다시 실행되고 있습니다. {lasted} 동안 멈춰 있었습니다"
    "({since}부터 {until}까지).",
    "test": "gymdbd의 메시지가 이곳에 도착합니다.",
    "happened": "무슨 일: {0}.",
    "reason": "메시지: {0}",
    "do": "할 일: {0}.",
    "simulated": "[시험] {0}",
    "nothing": "시험일 뿐이며 아무 일도 일어나지 않았습니다.",
    "title": "{machine}: {told}",
    "title-one": "{what} {state}",
    "title-still": "{what} 아직 {state}",
    "title-ended": "{what} 다시 정상",
    "title-down": "데몬이 멈춰 있었음",
    "title-test": "시험 메시지",
    "title-many": "{1} {0}건",
    "title-again": "다시 정상 {0}건",
}
