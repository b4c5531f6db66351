package validator_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	validator "example.com/token-service/validator"
)

// The program of README.md.
func Example() {
	made, err := validator.New(validator.Config{Issuer: "http://127.0.0.1:8080", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	follower := validator.Follow(made, "127.0.0.1:50051", nil, "shop-1")
	defer follower.Close()

	ctx, token := context.Background(), "a text that is no token"
	claims, err := follower.Validate(ctx, token, "orders:read")
	var refused *validator.InvalidTokenError
	fmt.Println(claims == nil, errors.As(err, &refused) && refused.Reason == "MALFORMED")
	// Output: true true
}
