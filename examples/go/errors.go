// Package validator verifies tokens of token-service in this process and follows their revocations.
//
// It needs no module besides the standard library.
package validator

import "errors"

// InvalidTokenError says that a token is invalid. Its message contains no token.
type InvalidTokenError struct {
	// Reason is a name of InvalidReason in token_service.proto, without its prefix.
	Reason  string
	Message string
}

func (e *InvalidTokenError) Error() string { return e.Message }

// ErrStale says that the validator can't prove now that the token is not revoked. Answer 503, not 401.
var ErrStale = errors.New("the validator can't prove now that the token is not revoked")

// errProtocol says that a message breaks the protocol of the stream. The replica stays unchanged.
var errProtocol = errors.New("the stream breaks its protocol")

func invalid(reason, message string) error { return &InvalidTokenError{reason, message} }

func malformed(message string) error { return invalid("MALFORMED", message) }
