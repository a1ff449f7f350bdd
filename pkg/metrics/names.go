package metrics

// kind is what Prometheus calls TYPE.
type kind string

const (
	gauge   kind = "gauge"
	counter kind = "counter"
)

// family is a metric: its name, which carries the unit, its labels, and the question that it answers.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// All names, in the order in which they are told. Dashboards and alert rules live on them: a name that stands here once
// stays. Those of the contract come first.
var (
	unsafeBytes   = family{"liverec_unsafe_bytes", gauge, []string{"room"}, "How many bytes of this room would be lost if the disk died now?"}
	oldestUnsafe  = family{"liverec_oldest_unsafe_seconds", gauge, []string{"room"}, "For how long has media of this room been safe nowhere else? Seconds since its oldest such part began; 0: all is safe."}
	gapSeconds    = family{"liverec_capture_gap_seconds_total", counter, []string{"room", "why"}, "How many seconds of media that was sent are not here, and why?"}
	deliveryAge   = family{"liverec_delivery_age_seconds", gauge, []string{"target"}, "How far is this target behind? Seconds since the oldest part began that it has not proven; 0: it has all."}
	received      = family{"liverec_received_bytes_total", counter, []string{"room"}, "How many bytes came from the source of this room?"}
	uploaded      = family{"liverec_uploaded_bytes_total", counter, []string{"target"}, "How many bytes has this target acknowledged?"}
	retries       = family{"liverec_upload_retries_total", counter, []string{"target", "kind"}, "How often was something tried again on this target, and what kind of trouble was it?"}
	rooms         = family{"liverec_rooms", gauge, []string{"state"}, "How many rooms are in this state?"}
	parts         = family{"liverec_parts", gauge, []string{"state"}, "How many parts are being recorded (open), closed and not proven (unsafe), proven (safe), proven and freed (reclaimed)?"}
	diskFree      = family{"liverec_disk_free_bytes", gauge, nil, "How much room has the disk of the data folder?"}
	configOK      = family{"liverec_config_ok", gauge, nil, "Was the config file understood when it was last read? 0: the one before is in force."}
	diskMinFree   = family{"liverec_disk_min_free_bytes", gauge, nil, "Below how many free bytes does liverec free safe parts and upload before all else?"}
	diskStopFree  = family{"liverec_disk_stop_free_bytes", gauge, nil, "Below how many free bytes does liverec pause rooms?"}
	deliveryDue   = family{"liverec_delivery_due_bytes", gauge, []string{"target"}, "How many bytes has this target still to get?"}
	deliveryHeld  = family{"liverec_delivery_parked_parts", gauge, []string{"target"}, "How many parts wait for a person on this target?"}
	bitrate       = family{"liverec_room_bitrate_bits", gauge, []string{"room"}, "How many bits per second came from this room over the last 10 seconds?"}
	build         = family{"liverec_build_info", gauge, []string{"version"}, "Which version is this? Always 1."}
	goroutines    = family{"go_goroutines", gauge, nil, "How many goroutines are there?"}
	processCPU    = family{"process_cpu_seconds_total", counter, nil, "How many seconds of CPU has the process used?"}
	processMemory = family{"process_resident_memory_bytes", gauge, nil, "How much memory does the process hold?"}
	processFiles  = family{"process_open_fds", gauge, nil, "How many files and sockets are open?"}
	processStart  = family{"process_start_time_seconds", gauge, nil, "When was the process started? Unix time."}
)

func families() []family {
	return []family{unsafeBytes, oldestUnsafe, gapSeconds, deliveryAge, received, uploaded, retries, rooms, parts, diskFree, configOK,
		diskMinFree, diskStopFree, deliveryDue, deliveryHeld, bitrate, build, goroutines, processCPU, processMemory, processFiles, processStart}
}

// Names are the names of all metrics.
func Names() []string {
	var out []string
	for _, f := range families() {
		out = append(out, f.name)
	}
	return out
}
