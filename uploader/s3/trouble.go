package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/liverec/liverec/pkg/failure"
)

// permissions that recording needs, for hints.
const permissions = "s3:GetObject, s3:PutObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucket and s3:ListBucketMultipartUploads"

// rule says what an error code of S3 means to us.
type rule struct {
	kind failure.Kind
	hint string
}

const (
	hintKey     = "The access key was refused: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile."
	hintDenied  = "The credentials may not use bucket {bucket}: they need " + permissions + "."
	hintExpired = "The session token has expired: get new credentials."
	hintRegion  = "The bucket is in another region: add region={region} to the destination."
	hintClock   = "Set the clock of this machine; it is {skew}."
	hintAccount = "Ask the operator of the store about the account."
)

// rules lists the codes of S3 that mean something to us. What is not here is decided by its status; most is weather.
var rules = map[string]rule{
	"NoSuchBucket":                 {failure.NeedsHuman, "Create the bucket {bucket}, or correct its name in the destination."},
	"InvalidBucketName":            {failure.NeedsHuman, "Correct the name of the bucket in the destination."},
	"AccessDenied":                 {failure.NeedsHuman, hintDenied},
	"AllAccessDisabled":            {failure.NeedsHuman, hintDenied},
	"AccountProblem":               {failure.NeedsHuman, hintAccount},
	"NotSignedUp":                  {failure.NeedsHuman, hintAccount},
	"InvalidAccessKeyId":           {failure.NeedsHuman, hintKey},
	"SignatureDoesNotMatch":        {failure.NeedsHuman, hintKey},
	"XAdminUserNotFound":           {failure.NeedsHuman, hintKey}, // versitygw, as a 404
	"InvalidToken":                 {failure.NeedsHuman, hintExpired},
	"ExpiredToken":                 {failure.NeedsHuman, hintExpired},
	"TokenRefreshRequired":         {failure.NeedsHuman, hintExpired},
	"RequestTimeTooSkewed":         {failure.NeedsHuman, hintClock},
	"RequestExpired":               {failure.NeedsHuman, hintClock},
	"AuthorizationHeaderMalformed": {failure.NeedsHuman, hintRegion},
	"InvalidRegion":                {failure.NeedsHuman, hintRegion},
	"PermanentRedirect":            {failure.NeedsHuman, hintRegion},
	"InvalidObjectState":           {failure.NeedsHuman, "The object lies in an archive class: restore it, or use another prefix."},

	"EntityTooLarge":          {failure.Permanent, "The store takes no part or object of that size: use a smaller --max-size."},
	"EntityTooSmall":          {failure.Permanent, ""},
	"KeyTooLongError":         {failure.Permanent, "Use a shorter --name or prefix."},
	"XMinioInvalidObjectName": {failure.Permanent, "Use another --name."},

	"SlowDown":               {failure.Throttled, ""},
	"SlowDownRead":           {failure.Throttled, ""},
	"SlowDownWrite":          {failure.Throttled, ""},
	"Throttling":             {failure.Throttled, ""},
	"ThrottlingException":    {failure.Throttled, ""},
	"RequestLimitExceeded":   {failure.Throttled, ""},
	"RequestThrottled":       {failure.Throttled, ""},
	"TooManyRequests":        {failure.Throttled, ""},
	"BandwidthLimitExceeded": {failure.Throttled, ""},

	// A store that is full, damage on the way, the store's own weather: the same request is sound another time, also
	// where the status is 403.
	"XMinioStorageFull":           {failure.Transient, "The store is full: free some space there."},
	"QuotaExceeded":               {failure.Transient, "The quota of the bucket {bucket} is used up: raise it or free some space."},
	"BadDigest":                   {},
	"InvalidDigest":               {},
	"XAmzContentChecksumMismatch": {},
	"XAmzContentSHA256Mismatch":   {},
	"IncompleteBody":              {},
	"RequestTimeout":              {},
	"InternalError":               {},
	"ServiceUnavailable":          {},
	"OperationAborted":            {},
	"ConditionalRequestConflict":  {},
	"InvalidPart":                 {},
	"NoSuchUpload":                {},
	"NoSuchKey":                   {},
	"PreconditionFailed":          {},
}

// trouble makes an error of minio-go or of the network one that says who can help.
func (t *Target) trouble(ctx context.Context, op string, err error, n *note) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	e := &failure.Error{Op: op, Kind: failure.Transient, Err: err}
	if inner, ok := errors.AsType[*failure.Error](err); ok { // credentials
		e.Kind, e.Hint = inner.Kind, inner.Hint
		return e
	}
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok {
		t.answer(e, resp, n)
		return e
	}
	if n.status != 0 {
		e.Code = strconv.Itoa(n.status) // an answer that could not be read
	}
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case authority, host, invalid:
		e.Kind = failure.NeedsHuman
		e.Hint = "The certificate of the store is not trusted: correct the endpoint, the clock, or the system's root certificates."
	case record, errors.Is(err, http.ErrSchemeMismatch):
		e.Kind, e.Hint = failure.NeedsHuman, "The store does not speak TLS there: is the endpoint http:// and not https://?"
	}
	return e
}

// answer fills in what a store's refusal means.
func (t *Target) answer(e *failure.Error, resp minio.ErrorResponse, n *note) {
	status := resp.StatusCode
	if n.status != 0 {
		status = n.status
	}
	e.Code = strings.TrimSpace(strconv.Itoa(status) + " " + resp.Code)
	if strings.HasPrefix(resp.Code, strconv.Itoa(status)) {
		e.Code = resp.Code // minio-go put the status line there
	}
	if strings.TrimSpace(resp.Message) == "" {
		e.Err = nil
	}
	e.RetryAfter = retryAfter(n)
	r, known := rules[resp.Code]
	switch {
	case known:
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && e.RetryAfter > 0:
		r = rule{kind: failure.Throttled}
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		r = rules["PermanentRedirect"]
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r = rules["AccessDenied"]
	case status == http.StatusProxyAuthRequired:
		r = rule{failure.NeedsHuman, "The proxy wants a password: set it in HTTPS_PROXY."}
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		r = rule{failure.NeedsHuman, "Does this endpoint speak S3?"}
	case status == http.StatusInsufficientStorage:
		r = rules["XMinioStorageFull"]
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable && (e.RetryAfter > 0 || r.kind == failure.Throttled) {
		r.kind = failure.Throttled
	}
	region := otherRegion(resp, n)
	if region == "" {
		region = "REGION"
	}
	e.Kind = r.kind
	if r.hint != "" {
		e.Hint = strings.NewReplacer("{bucket}", t.cfg.Bucket, "{region}", region, "{skew}", skew(n)).Replace(r.hint)
	}
	switch resp.Code {
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound":
		t.creds.Expire() // the file may hold new ones by now
	}
}

// otherRegion is the region that a refusal names.
func otherRegion(err error, n *note) string {
	switch n.status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest, http.StatusForbidden:
	default:
		return ""
	}
	if r := n.header.Get("X-Amz-Bucket-Region"); r != "" {
		return r
	}
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok && (resp.Code == minio.AuthorizationHeaderMalformed || resp.Code == minio.InvalidRegion) {
		return resp.Region
	}
	return ""
}

// retryAfter reads the header in both of its forms.
func retryAfter(n *note) time.Duration {
	v := strings.TrimSpace(n.header.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		from := time.Now()
		if d, err := http.ParseTime(n.header.Get("Date")); err == nil {
			from = d // its clock, not ours
		}
		return max(0, at.Sub(from))
	}
	return 0
}

// skew says how far our clock is from the store's.
func skew(n *note) string {
	at, err := http.ParseTime(n.header.Get("Date"))
	if err != nil {
		return "too far from the store's"
	}
	d := time.Since(at).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s behind the store's", -d)
	}
	return fmt.Sprintf("%s ahead of the store's", d)
}

// code is the error code of S3 in err, "" if there is none.
func code(err error) string {
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return resp.Code
	}
	return ""
}
