//! What users and providers do by hand
