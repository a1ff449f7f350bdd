package bilibili

// Refusal is the remote's own no. It is the cause below a *failure.Error.
type Refusal struct {
	Code    int64  // of the envelope; minus the HTTP status where there was no envelope
	Status  int    // HTTP
	Message string // the remote's words, cut
	Voucher bool   // it wants a captcha (v_voucher)
}

// CodeOf is the code of the Refusal in err's chain, 0 if there is none.
func CodeOf(err error) int64 { panic("outline") }
