package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is a metric: its name, which carries the unit, its labels, and the question that it answers.
type family struct {
	*prometheus.Desc
	name string
	kind prometheus.ValueType
}

func gauge(name, question string, labels ...string) family {
	return family{prometheus.NewDesc(name, question, labels, nil), name, prometheus.GaugeValue}
}

func counter(name, question string, labels ...string) family {
	return family{prometheus.NewDesc(name, question, labels, nil), name, prometheus.CounterValue}
}

// All names that are ours. Dashboards and alert rules live on them: a name that stands here once stays. Those of the
// contract come first.
var (
	unsafeBytes  = gauge("liverec_unsafe_bytes", "How many bytes of this room would be lost if the disk died now?", "room")
	oldestUnsafe = gauge("liverec_oldest_unsafe_seconds", "For how long has media of this room been safe nowhere else? Seconds since its oldest such part began; 0: all is safe.", "room")
	gapSeconds   = counter("liverec_capture_gap_seconds_total", "How many seconds of media that was sent are not here, and why?", "room", "why")
	deliveryAge  = gauge("liverec_delivery_age_seconds", "How far is this target behind? Seconds since the oldest part began that it has not proven; 0: it has all.", "target")
	received     = counter("liverec_received_bytes_total", "How many bytes came from the source of this room?", "room")
	uploaded     = counter("liverec_uploaded_bytes_total", "How many bytes has this target acknowledged?", "target")
	retries      = counter("liverec_upload_retries_total", "How often was something tried again on this target, and what kind of trouble was it?", "target", "kind")
	rooms        = gauge("liverec_rooms", "How many rooms are in this state?", "state")
	parts        = gauge("liverec_parts", "How many parts are being recorded (open), closed and not proven (unsafe), proven (safe), proven and freed (reclaimed)?", "state")
	diskFree     = gauge("liverec_disk_free_bytes", "How much room has the disk of the data folder?")
	configOK     = gauge("liverec_config_ok", "Was the config file understood when it was last read? 0: the one before is in force.")
	diskMinFree  = gauge("liverec_disk_min_free_bytes", "Below how many free bytes does liverec free safe parts and upload before all else?")
	diskStopFree = gauge("liverec_disk_stop_free_bytes", "Below how many free bytes does liverec pause rooms?")
	deliveryDue  = gauge("liverec_delivery_due_bytes", "How many bytes has this target still to get?", "target")
	deliveryHeld = gauge("liverec_delivery_parked_parts", "How many parts wait for a person on this target?", "target")
	bitrate      = gauge("liverec_room_bitrate_bits", "How many bits per second came from this room over the last 10 seconds?", "room")
	build        = gauge("liverec_build_info", "Which version is this? Always 1.", "version")
)

// standard are the names of client_golang's own collectors that the docs, the dashboard and the tests rely on.
var standard = []string{"go_goroutines", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"}

func families() []family {
	return []family{unsafeBytes, oldestUnsafe, gapSeconds, deliveryAge, received, uploaded, retries, rooms, parts, diskFree, configOK,
		diskMinFree, diskStopFree, deliveryDue, deliveryHeld, bitrate, build}
}

// Names are the names of all metrics that somebody may rely on.
func Names() []string {
	var out []string
	for _, f := range families() {
		out = append(out, f.name)
	}
	return append(out, standard...)
}
