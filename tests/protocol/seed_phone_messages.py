"""Every JSON example of seed 000 §3 and §4, as printed; where it prints a choice ("sent|failed|delivered"), the first of it."""

import json
from typing import Any

COMMANDS: dict[str, str] = {
    "connection_established": """{
      "type": "connection_established",
      "settings": {
        "battery_low_threshold": 20,
        "error_count_threshold": 5,
        "offline_threshold_minutes": 5,
        "signal_low_threshold": 2,
        "low_balance_threshold": "10.00",
        "enable_battery_alarms": true,
        "enable_error_alarms": true,
        "enable_offline_alarms": true,
        "enable_signal_alarms": true,
        "enable_sim_balance_alarms": true,
        "auto_disable_sim_on_alarm": false,
        "sim1_daily_sms_limit": 100,
        "sim1_monthly_sms_limit": 1000,
        "sim2_daily_sms_limit": 100,
        "sim2_monthly_sms_limit": 1000,
        "enable_sms_limits": false,
        "sms_limit_reset_hour": 0,
        "sim1_guard_interval": 1,
        "sim2_guard_interval": 1
      }
    }""",
    "send_sms": """{
      "type": "send_sms",
      "message_id": "unique_message_id",
      "data": {"sim_slot": 0, "phone_number": "+905551234567", "message": "SMS content", "priority": "normal"}
    }""",
    "send_ussd": """{
      "type": "send_ussd",
      "message_id": "unique_message_id",
      "data": {"sim_slot": 0, "ussd_code": "*100#", "session_id": "optional_session_id", "delay": 0}
    }""",
    "send_rcs": """{
      "type": "send_rcs",
      "message_id": "unique_message_id",
      "data": {"sim_slot": 0, "phone_number": "+905551234567", "message": "RCS message content", "message_type": "text"}
    }""",
    "find_device": """{"type": "find_device", "data": {"message": "Find my device"}}""",
    "alarm_start": """{"type": "alarm_start", "data": {"alarm_type": "sim_blocked", "message": "SIM card is blocked"}}""",
    "alarm_stop": """{"type": "alarm_stop"}""",
}

HEARTBEAT = """{
  "type": "heartbeat",
  "timestamp": 1640995200000,
  "data": {
    "device_info": {
      "manufacturer": "Samsung",
      "model": "Galaxy S21",
      "android_version": "12",
      "device_id": "android_device_id",
      "sitename": "site_name",
      "device_group": "device_group_name"
    },
    "battery_level": 85,
    "battery_status": "charging",
    "signal_strength": 4,
    "signal_dbm": -65,
    "network_type": "LTE",
    "sim_cards": [
      {
        "slot_index": 0,
        "carrier_name": "Turkcell",
        "phone_number": "+905551234567",
        "network_mcc": "286",
        "network_mnc": "01",
        "is_active": true,
        "imei": "123456789012345",
        "imsi": "286011234567890",
        "iccid": "89860012345678901234",
        "signal_strength": 4,
        "signal_dbm": -65,
        "network_type": "LTE"
      }
    ],
    "location": {"latitude": 41.0082, "longitude": 28.9784}
  }
}"""

_PLACE = '"device_group": "device_group_name", "sitename": "site_name"'
_TIME = '"timestamp": 1640995200000'
_USSD_IDS = '"session_id": "session_identifier", "message_id": "message_identifier"'

REPORT_DATA: dict[str, str] = {
    "device_status": f"""{{"status": "online", {_PLACE}, "details": {{}}}}""",
    "alarm": f"""{{"alarm_type": "battery_low", "message": "Alarm description", "severity": "warning", {_PLACE}}}""",
    "sms_log": f"""{{"sim_slot": 0, "phone_number": "+905551234567", "message": "SMS content", "status": "sent", {_PLACE}}}""",
    "sms_message": f"""{{
      "phone_number": "+905551234567", "message": "SMS content", "direction": "received", "sim_slot": 0, {_TIME},
      "formatted_timestamp": "2024-01-01 12:00:00", {_PLACE}
    }}""",
    "sms_delivery_report": f"""{{
      "phone_number": "+905551234567", "message_id": "unique_message_id", "status": "delivered", "sim_slot": 0, {_TIME}, {_PLACE}
    }}""",
    "ussd_response": f"""{{
      {_USSD_IDS}, "response": "Raw USSD response text", "cleaned_response": "Cleaned USSD response",
      "status": "RESPONSE_RECEIVED", "is_menu": true, "auto_cancel": true, {_TIME}
    }}""",
    "ussd_response_failed": f"""{{
      {_USSD_IDS}, "ussd_code": "*100#", "sim_slot": 0, "failure_code": 1,
      "error_message": "USSD request failed - Network error", "status": "FAILED"
    }}""",
    "mms_received": f"""{{
      "sender": "+905551234567", "subject": "MMS Subject", "parts_count": 2, "sim_slot": 0, {_TIME}, {_PLACE},
      "parts": [
        {{"content_type": "text/plain", "content_id": "text_001", "file_name": "message.txt", "data_size": 150}},
        {{"content_type": "image/jpeg", "content_id": "image_001", "file_name": "photo.jpg", "data_size": 102400}}
      ]
    }}""",
    "rcs_received": f"""{{
      "sender": "+905551234567", "message": "RCS message content", "message_type": "text", "sim_slot": 0, {_TIME}, {_PLACE}
    }}""",
    "ussd_code": f"""{{"sender": "+905551234567", "ussd_code": "*100#", "sim_slot": 0, {_TIME}, {_PLACE}}}""",
    "find_device_success": f"""{{"message": "Find my device", "status": "success", {_TIME}}}""",
    "find_device_failed": f"""{{"message": "Find my device", "status": "failed", "error": "Error description", {_TIME}}}""",
    "alarm_started": f"""{{"alarm_type": "sim_blocked", "message": "SIM card is blocked", "status": "started", {_TIME}}}""",
    "alarm_failed": f"""{{
      "alarm_type": "sim_blocked", "message": "SIM card is blocked", "status": "failed", "error": "Error description", {_TIME}
    }}""",
    "alarm_stopped": f"""{{"status": "stopped", {_TIME}}}""",
    "alarm_stop_failed": f"""{{"status": "failed", "error": "Error description", {_TIME}}}""",
    "ussd_cancelled": f"""{{
      {_USSD_IDS}, "ussd_code": "*100#", "sim_slot": 0, "status": "CANCELLED", "reason": "auto_cancel_menu", {_TIME}
    }}""",
}

REPORTS: dict[str, str] = {"heartbeat": HEARTBEAT} | {
    name: f"""{{"type": "{name}", "timestamp": 1640995200000, "data": {data}}}""" for name, data in REPORT_DATA.items()
}


def report(name: str) -> dict[str, Any]:
    """A fresh copy of the seed's example of this report."""
    return json.loads(REPORTS[name])
